"""The site: guides in Markdown, the API from docstrings, a gallery that is run in the build; nothing from a network."""

import os
import re
import sys
from pathlib import Path

for library in ("OPENBLAS", "OMP", "MKL", "NUMBA"):  # read once, when NumPy comes: times and digits that come again
    os.environ[f"{library}_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"  # the gallery's model comes out of a package

import curtensor  # noqa: E402

project = "curtensor"
copyright = "the curtensor developers"
version = release = curtensor.__version__

extensions = ["sphinx.ext.autosummary", "numpydoc", "myst_parser", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build", "examples", "gallery", "results"]
templates_path = ["_templates"]
default_role = "py:obj"
myst_heading_anchors = 3

autodoc_typehints = "none"  # the docstrings say it in words
numpydoc_show_class_members = False  # the template lists them
toc_object_entries_show_parents = "hide"

# All, but: sections that definitions need not have, one-line docstrings of properties and internal methods,
# dataclass fields as parameters (tests/test_docstrings.py compares those of functions).
numpydoc_validation_checks = {"all", "ES01", "EX01", "SA01", "SS05", "YD01"} | {
    "PR01", "PR04", "PR07", "RT01", "RT02", "RT03",
}  # fmt: skip

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "reference_url": {"curtensor": None},
    "doc_module": ("curtensor",),
    "backreferences_dir": "api/backreferences",
}

html_theme = "pydata_sphinx_theme"
html_title = "curtensor"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "header_links_before_dropdown": 7,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": [], "changelog": [], "references": []}


HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "examples")]  # what draws the pictures is not installed


def draw_pictures(app):
    """The pictures of the pages, out of the tables in docs/results."""
    import runs

    from evidence import error_and_time

    error_and_time.draw()
    table = runs.summary(runs.rows_of(HERE / "results" / "sst2.csv"))
    runs.draw(table, error_and_time.PICTURES / "sst2.png", "the development set")


def keep_initials(app, what, name, thing, options, lines):
    """An author's initial at the start of a reference is no number of a list."""
    lines[:] = [re.sub(r"^(\.\. \[\d+\] [A-Z])\. ", r"\1\\. ", line) for line in lines]


def close_blocks(app, name, source):
    """The empty line that ends an example for doctest is not shown."""
    source[0] = source[0].replace("\n\n```\n", "\n```\n")


def setup(app):
    """What is changed on the way from the sources; initials before numpydoc takes the references apart."""
    app.connect("builder-inited", draw_pictures)
    app.connect("autodoc-process-docstring", keep_initials, priority=400)
    app.connect("source-read", close_blocks)
