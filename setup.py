"""The one thing that pyproject.toml cannot say: what libfuse the optional C module is built with."""

import subprocess

from setuptools import Extension, setup


def pkg_config(option: str) -> list[str]:
    """What pkg-config knows of libfuse; without it the module is left out."""
    try:
        return subprocess.run(
            ["pkg-config", option, "fuse3"], capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []


setup(
    ext_modules=[
        Extension(
            "csfs.mount._kernel",
            ["csfs/mount/_kernel.c"],
            extra_compile_args=["-Wall", "-Wextra", "-O2", *pkg_config("--cflags")],
            extra_link_args=["-Wl,--no-as-needed", *pkg_config("--libs"), "-ldl", "-lm"],
            optional=True,
        )
    ]
)
