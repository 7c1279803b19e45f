"""Which folders install as which packages; everything else about the project is in pyproject.toml.

kernels/, export/ and bench/ live at the top of the checkout and install inside `bdflow_rt`, so nothing called
`kernels` or `bench` lands loose in anybody's site-packages.
"""

from setuptools import find_packages, setup

MAPPED = {"bdflow_rt.kernels": "kernels", "bdflow_rt.export": "export", "bdflow_rt.bench": "bench"}


def packages() -> list[str]:
    """Every importable package: the runtime's, and those of the mapped folders under their installed names."""
    names = ["bdflow_rt", *(f"bdflow_rt.{name}" for name in find_packages("bdflow_rt"))]
    for package, folder in MAPPED.items():
        names += [package, *(f"{package}.{name}" for name in find_packages(folder))]
    return names


setup(
    packages=packages(),
    package_dir=MAPPED,
    package_data={
        "bdflow_rt": ["py.typed"],
        "bdflow_rt.zoo": ["**/*.json", "**/*.safetensors", "**/*.onnx"],
        "bdflow_rt.training": ["configs/*.toml"],
        "bdflow_rt.kernels": ["cuda/*.cuh"],
        "bdflow_rt.bench": ["*.toml"],
    },
)
