"""Where the documentation is."""

from importlib.metadata import PackageNotFoundError, metadata


def documentation_url() -> str:
    """Address of the documentation, as the installed package states it; '' if it states none."""
    try:
        urls = metadata("skxlmr").get_all("Project-URL", [])
    except PackageNotFoundError:  # used without being installed
        return ""
    return dict(url.split(", ", 1) for url in urls).get("Documentation", "").rstrip("/")
