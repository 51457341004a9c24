"""Makes the OOD pictures of the demo: ``python scripts/demo_pictures.py``, with scikit-image.

``src/offmap/demo/pictures.safetensors`` holds patches of 8x8 grey pixels, shrunk from 32x32 and
more; ``pictures28.safetensors`` some of 28x28. They are of scikit-image's sample data (of which the
faces are of *Labeled Faces in the Wild*) and of two photographs in scikit-learn, by danielbuechele
and by vultilion (CC BY 2.0).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from offmap import data, demo

FOLDER = Path(demo.__file__).parent


def main() -> None:
    """Write both files."""
    write(FOLDER / "pictures.safetensors", demo.FAR, size=8, limit=300)
    write(FOLDER / "pictures28.safetensors", demo.FAR28, size=28, limit=150)


def write(path: Path, names: tuple[str, ...], *, size: int, limit: int) -> None:
    """One of them."""
    tensors, said = dict[str, Any](), dict[str, Any]()
    for name in names:
        made = data.embedded(name, size=size, limit=limit)
        tensors[name] = made.images
        tensors[f"{name}.rows"] = torch.tensor([int(key) for key in made.keys(0, len(made))])
        said |= {name: made.name, f"{name}.transform": made.transform}
    save_file(tensors, path, metadata=said)
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
