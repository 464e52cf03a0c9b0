"""Compiles the codec when the package is built or installed. Where there is no C compiler the package is built without it, and runs the
same contract in Python.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_MODULE = "hindcast.online._codec"
_SOURCE = "server/hindcast/online/_codec.pyx"


class CompiledCodec(BuildHookInterface):  # type: ignore[misc]
    """The hook that `[tool.hatch.build.targets.wheel.hooks.custom]` names."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's interface
        """Leave the shared library beside its source, and have it packed into the wheel."""
        library = _compile(Path(self.root))
        if library is None:
            return
        build_data["artifacts"].append(library.relative_to(self.root).as_posix())
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def _compile(root: Path) -> Path | None:
    from Cython.Build import cythonize  # noqa: PLC0415 - only where a wheel is built
    from setuptools import Distribution, Extension  # noqa: PLC0415
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415
    from setuptools.errors import CCompilerError, ExecError, PlatformError  # noqa: PLC0415

    source = root / _SOURCE
    for stale in source.parent.glob(f"{source.stem}.*.so"):
        stale.unlink()
    with tempfile.TemporaryDirectory() as name:
        extension = Extension(_MODULE, [str(source)], extra_compile_args=["-O2"])
        extensions = cythonize([extension], build_dir=name, quiet=True)
        command = build_ext(Distribution({"ext_modules": extensions}))
        command.build_lib = command.build_temp = name
        command.finalize_options()
        try:
            command.run()
        except (CCompilerError, ExecError, PlatformError) as error:
            print(f"hindcast: the codec could not be compiled and runs in Python, slower: {error}", file=sys.stderr)
            return None
        built = Path(command.get_ext_fullpath(_MODULE))
        library = source.parent / built.name
        shutil.copy2(built, library)
    return library
