# examples/serve.py without torch, for a folder that export_onnx wrote. From the root of the repository:
#     docker build -f examples/serve.Dockerfile -t skxlmr-serve .
#     docker run -p 8000:8000 -v "$PWD/my-model:/model:ro" skxlmr-serve
FROM python:3.13-slim

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app

COPY constraints.txt examples/serve-requirements.txt ./
RUN pip install --no-cache-dir -c constraints.txt -r serve-requirements.txt

COPY pyproject.toml README.md LICENSE ./
COPY skxlmr ./skxlmr
# torch is a dependency of the package, but nothing here imports it.
RUN pip install --no-cache-dir --no-deps . && rm -r skxlmr

COPY examples/serve.py ./
RUN useradd --system --no-create-home serve
USER serve

EXPOSE 8000
HEALTHCHECK --start-period=60s --interval=10s --timeout=3s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["python", "serve.py", "--host", "0.0.0.0", "--model", "/model"]
