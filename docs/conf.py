"""The site, which `make docs` builds: pages of this folder, the gallery and the API reference."""

import importlib
import inspect
import logging
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["MPLBACKEND"] = "Agg"

from docutils import nodes
from docutils.utils.math import latex2mathml

import skfedfocal

# Of the exporter to ONNX, which names each package that it could have used.
logging.getLogger("torch.onnx").setLevel(logging.ERROR)

project = "skfedfocal"
author = "the skfedfocal developers"
copyright = author
version = release = skfedfocal.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates", "**/README.md", "**sg_execution_times.rst"]
templates_path = ["_templates"]
default_role = "autolink"  # `name` in a docstring: a link where there is such an object
highlight_language = "none"  # of blocks that name none
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# -- API reference: what the public modules export, and nothing else ----------------------------

PUBLIC_MODULES = {
    "skfedfocal": "the classifiers",
    "skfedfocal.losses": "what is minimised",
    "skfedfocal.strategies": "the server's step",
    "skfedfocal.aggregation": "many updates into one",
    "skfedfocal.selection": "who takes part in a round",
    "skfedfocal.partition": "rows over clients, for experiments",
    "skfedfocal.preprocessing": "what stands before a classifier",
    "skfedfocal.encodings": "what columns of numbers become before the first layer",
    "skfedfocal.metrics": "scores by client",
    "skfedfocal.describe": "what rows the clients have",
    "skfedfocal.display": "pictures",
    "skfedfocal.datasets": "whole federations",
    "skfedfocal.privacy": "what may be learnt of rows and clients",
    "skfedfocal.flower": "training over sites",
    "skfedfocal.onnx": "files that other tools run",
}


def is_own(kind, name):
    """Whether a member is documented here: not private, nor inherited from elsewhere."""
    if name.startswith("_"):
        return False
    for base in kind.__mro__:
        if name in vars(base):
            found = vars(base)[name]
            of_sklearn = type(found).__module__.startswith("sklearn.")  # set_fit_request and such
            return bool(
                base.__module__.startswith("skfedfocal.") and found.__doc__ and not of_sklearn
            )
    return False


def is_method(kind, name):
    member = inspect.getattr_static(kind, name)
    return inspect.isroutine(member) or isinstance(member, classmethod | staticmethod)


def own_methods(kind):
    return [name for name in dir(kind) if is_own(kind, name) and is_method(kind, name)]


public = {name: sorted(importlib.import_module(name).__all__) for name in PUBLIC_MODULES}
autosummary_context = {
    "titles": PUBLIC_MODULES,
    "public": public,
    "own_methods": {
        f"{module}.{name}": own_methods(found)
        for module, names in public.items()
        for name in names
        if inspect.isclass(found := getattr(importlib.import_module(module), name))
    },
}
autosummary_generate = True
autosummary_imported_members = True
autodoc_preserve_defaults = True  # `np.float64`, not the repr of a class
autodoc_typehints = "none"  # numpydoc's sections have them
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# -- gallery -------------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "backreferences_dir": "gallery/backreferences",
    "doc_module": ("skfedfocal",),
    "reference_url": {"skfedfocal": None},
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "copyfile_regex": r".*\.svg",
    "min_reported_time": 1e9,
    "show_memory": False,
    "remove_config_comments": True,
    "download_all_examples": False,
}

# -- theme ---------------------------------------------------------------------------------------

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "skfedfocal"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sidebars = {"index": [], "faq": [], "pitfalls": []}
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "show_prev_next": False,
    "show_nav_level": 1,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_show_sourcelink = False


# -- docstrings -----------------------------------------------------------------------------------


def escape(app, what, name, obj, options, lines):
    """Keep from being read as markup what is none.

    `shape (n_features_in_,)` in a type is no link to a target of that name, and `S. Reddi` after
    the number of a reference is no list that begins at S.
    """
    for i, line in enumerate(lines):
        if re.match(r"\s*\*{0,2}\w+(, \w+)* : ", line):
            lines[i] = re.sub(r"(?<=\w)_(?=[,)])", r"\_", line)
        lines[i] = re.sub(r"^(\s*\.\. \[\d+\] )(?=[A-Z]\. )", r"\1\\", lines[i])


def list_names(app, what, name, obj, options, lines):
    """What a table of parts has, by name; its repr would be one of classes."""
    if what == "data" and isinstance(obj, dict):
        lines += ["", *(f'- ``"{key}"``: `{kind.__name__}`' for key, kind in obj.items()), ""]


# -- formulas: MathML, which browsers draw by themselves; MathJax would come from the net ---------


def write_inline_formula(translator, node):
    translator.body.append(latex2mathml.tex2mathml(node.astext()))
    raise nodes.SkipNode


def write_formula(translator, node):
    formula = latex2mathml.tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math">{formula}</div>')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (write_inline_formula, None), (write_formula, None))
    app.connect("autodoc-process-docstring", escape, priority=400)  # before numpydoc's
    app.connect("autodoc-process-docstring", list_names)
