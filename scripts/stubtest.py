"""Compares the stubs below python/bayou/_core with the extension module.

The stubs are a folder with one file for each noun, and the extension module has no submodules. stubtest checks a name in the module where the
name is defined. So each stub file gets a module here that contains its names from the extension module. Without these modules, stubtest would
have to skip the stub files, and would check nothing.
"""

import ast
import sys
from pathlib import Path
from types import ModuleType

from bayou import _core
from mypy import stubtest

for path in Path(__file__).parent.parent.glob("python/bayou/_core/_[a-z]*.pyi"):
    module = ModuleType(f"{_core.__name__}.{path.stem}")
    for item in ast.parse(path.read_text()).body:
        if isinstance(item, (ast.ClassDef, ast.FunctionDef)) and hasattr(_core, item.name):
            setattr(module, item.name, getattr(_core, item.name))
    sys.modules[module.__name__] = module

sys.argv[1:] = [_core.__name__, "--mypy-config-file", "pyproject.toml", "--allowlist", "python/stubtest-allowlist.txt"]
sys.exit(stubtest.main())
