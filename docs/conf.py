"""How the site is made: ``python -m sphinx -W --keep-going docs build/docs``; see docs/contributing.md."""

import atexit
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(DOCS.parent), *filter(None, [os.environ.get("PYTHONPATH")])])

import skxlmr  # noqa: E402
from skxlmr.estimators._core.documentation import documentation_url  # noqa: E402

project = "skxlmr"
author = "the skxlmr developers"
copyright = f"2026, {author}. BSD-3-Clause"
version = release = skxlmr.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "repository_links",
    "public_names",
    "llms",
]
default_role = "literal"
templates_path = ["_templates"]
exclude_patterns = ["_ext", "_templates"]
language = "en"
root_doc = "index"
toc_object_entries_show_parents = "hide"
pygments_style = "default"

# Pages in Markdown ----------------------------------------------------------------------------------------------------

myst_enable_extensions = ["attrs_block"]
myst_heading_anchors = 4
suppress_warnings = ["config.cache"]  # functions among the settings can't be kept from one build to the next

# API reference --------------------------------------------------------------------------------------------------------

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings state types
numpydoc_show_class_members = False  # the template lists them
numpydoc_xref_param_type = False
add_module_names = False


def _defined_here(cls):
    """Names of the public attributes of a class that this package, not one of those it builds on, defines."""
    names = {name for base in cls.__mro__ if base.__module__.startswith("skxlmr") for name in vars(base)}
    return sorted(name for name in names if name == "__call__" or not name.startswith("_"))


def _public(fullname):
    module, _, name = fullname.rpartition(".")
    return getattr(sys.modules[module], name)


def own_methods(fullname):
    """Methods for the page of a class: those of this package, without scikit-learn's requests of metadata."""
    cls = _public(fullname)
    names = [name for name in _defined_here(cls) if callable(getattr(cls, name)) and not name.endswith("_request")]
    if hasattr(cls, "transform") and "fit_transform" not in names and hasattr(cls, "fit_transform"):
        names.append("fit_transform")
    return sorted(names, key=lambda name: (name != "fit", name))


def own_properties(fullname):
    """Properties of a class that this package documents."""
    cls = _public(fullname)
    found = [name for name in _defined_here(cls) if isinstance(getattr(cls, name), property)]
    return [name for name in found if getattr(cls, name).__doc__]


def methods_of_sklearn(fullname):
    """Names of the public methods that a class has from scikit-learn as they are."""
    cls = _public(fullname)
    names = {
        name
        for base in cls.__mro__
        if base.__module__.startswith("sklearn")
        for name in vars(base)
        if not name.startswith("_") and callable(getattr(cls, name, None))
    }
    names |= {name for name in dir(cls) if name.startswith("set_") and name.endswith("_request")}
    return sorted(names - set(own_methods(fullname)))


autosummary_context = {
    "own_methods": own_methods,
    "own_properties": own_properties,
    "methods_of_sklearn": methods_of_sklearn,
}

# Links to other projects ----------------------------------------------------------------------------------------------

INVENTORIES = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "pandas": "https://pandas.pydata.org/docs/",
    "sklearn": "https://scikit-learn.org/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "matplotlib": "https://matplotlib.org/stable/",
    "joblib": "https://joblib.readthedocs.io/en/stable/",
}


def _reached(inventories, folder, seconds=4):
    """Those of the inventories that can be had now, as intersphinx wants them; none without a network, and no warning."""
    found = {}

    def fetch(name, url):
        with contextlib.suppress(OSError), urlopen(url + "objects.inv", timeout=seconds) as response:
            file = folder / f"{name}.inv"
            file.write_bytes(response.read())
            found[name] = (url, str(file))

    threads = [Thread(target=fetch, args=item, daemon=True) for item in inventories.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)


_folder = tempfile.TemporaryDirectory()
atexit.register(_folder.cleanup)
intersphinx_mapping = _reached(INVENTORIES, Path(_folder.name))
nitpicky = True
nitpick_ignore_regex = [
    # Other projects: their names are links where their inventory was reached, plain text where it was not.
    (r"py:.*", r"(collections|joblib|matplotlib|numpy|pandas|pyarrow|scipy|sklearn|torch)\..*"),
]

# Gallery --------------------------------------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "backreferences_dir": "gallery/backreferences",
    "doc_module": ("skxlmr",),
    "within_subsection_order": "ExampleTitleSortKey",
    "abort_on_example_error": False,  # one that fails is a warning, and so an error, after the others have run
    "capture_repr": ("_repr_html_", "__repr__"),
    "parallel": 2,
    "reset_modules": ("matplotlib", "seaborn", "failed_fits.are_errors"),
    "min_reported_time": 1,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "image_srcset": ["2x"],
    "thumbnail_size": (400, 280),
    "inspect_global_variables": False,
}

# Look -----------------------------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "skxlmr"
html_baseurl = documentation_url()
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_search_scorer = str(DOCS / "_ext" / "scorer.js")
html_context = {"default_mode": "auto"}
html_copy_source = True
html_show_sourcelink = False
WIDE: dict = {f"coming_from/{page.stem}": [] for page in DOCS.glob("coming_from/*.md")}  # tables that need the room
html_theme_options = {
    "logo": {"text": "skxlmr"},
    "header_links_before_dropdown": 8,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "navigation_depth": 3,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "secondary_sidebar_items": {"**": ["page-toc"], "index": [], **WIDE},
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
