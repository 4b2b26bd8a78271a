"""Compile the kernels when the package is built. Knows nothing of how: that is `build_kernels.py`."""

from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent


class KernelBuildHook(BuildHookInterface):
    """Add the library to a wheel, installed or editable; go on without it where nothing compiles."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build in the source tree; the wheel is then for this platform, and for any Python."""
        if self.target_name != "wheel":
            return
        kernels = _build_script()
        try:
            self.app.display_info(kernels.build())
        except kernels.BuildFailed as fault:
            kernels.LIBRARY.unlink(missing_ok=True)
            self.app.display_warning(f"no CPU kernels, torch computes everything: {fault}")
            return
        system = f"{platform.system()}_{platform.machine()}".lower()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{system}"
        build_data["artifacts"].append(str(kernels.LIBRARY.relative_to(ROOT)))


def _build_script() -> ModuleType:
    """Import the script beside this file, which is on no import path."""
    spec = importlib.util.spec_from_file_location("build_kernels", ROOT / "build_kernels.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
