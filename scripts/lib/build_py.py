"""The build of a wheel: `notebooks/` goes along as `lab/_notebooks/`, where `lab report` finds it.

Named in pyproject.toml. An editable install is left alone: there the checkout's own are found.
(setuptools' package-dir could name the folder too, but then every package has to be listed by hand,
and an editable install puts an import hook into every start of Python.)
"""

from pathlib import Path

from setuptools.command.build_py import build_py

NOTEBOOKS = Path("notebooks")


class BuildWithNotebooks(build_py):
    """setuptools' build_py, and the notebooks."""

    def run(self) -> None:
        """Copy the packages, then the notebooks."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "lab", "_notebooks")
        target.mkdir(parents=True, exist_ok=True)
        for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
            self.copy_file(str(notebook), str(target / notebook.name))

    def get_source_files(self) -> list[str]:
        """What a source distribution needs to build from."""
        extra = [*sorted(NOTEBOOKS.glob("*.ipynb")), Path("scripts", "lib", "build_py.py")]
        return [*super().get_source_files(), *map(str, extra)]
