"""Compiles what has a compiled form when the package is built or installed. Where there is no C compiler the package is built without,
and runs the same contracts in Python.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_MODULES = ("hindcast.online._codec", "hindcast.lookups._plain")


class CompiledForms(BuildHookInterface):  # type: ignore[misc]
    """The hook that `[tool.hatch.build.targets.wheel.hooks.custom]` names."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's interface
        """Leave the shared libraries beside their sources, and have them packed into the wheel."""
        libraries = _compile(Path(self.root))
        if not libraries:
            return
        build_data["artifacts"] += [library.relative_to(self.root).as_posix() for library in libraries]
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def _compile(root: Path) -> list[Path]:
    from Cython.Build import cythonize  # noqa: PLC0415 - only where a wheel is built
    from setuptools import Distribution, Extension  # noqa: PLC0415
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415
    from setuptools.errors import CCompilerError, ExecError, PlatformError  # noqa: PLC0415

    sources = {name: root / "server" / f"{name.replace('.', '/')}.pyx" for name in _MODULES}
    for source in sources.values():
        for stale in source.parent.glob(f"{source.stem}.*.so"):
            stale.unlink()
    with tempfile.TemporaryDirectory() as folder:
        wanted = [Extension(name, [str(source)], extra_compile_args=["-O2"]) for name, source in sources.items()]
        command = build_ext(Distribution({"ext_modules": cythonize(wanted, build_dir=folder, quiet=True)}))
        command.build_lib = command.build_temp = folder
        command.parallel = len(wanted)  # the C compiler takes 5 s for each
        command.finalize_options()
        try:
            command.run()
        except (CCompilerError, ExecError, PlatformError) as error:
            print(f"hindcast: no C could be compiled; it runs in Python, slower: {error}", file=sys.stderr)
            return []
        libraries = []
        for name, source in sources.items():
            built = Path(command.get_ext_fullpath(name))
            libraries.append(source.parent / built.name)
            shutil.copy2(built, libraries[-1])
    return libraries
