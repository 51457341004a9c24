"""Makes the OOD pictures of the demo: ``python scripts/demo_pictures.py``, with scikit-image.

``src/offmap/demo/pictures.safetensors`` holds patches of 8x8 grey pixels, shrunk from 32x32 and
more. They are of scikit-image's sample data (of which the faces are of *Labeled Faces in the Wild*)
and of two photographs in scikit-learn, by danielbuechele and by vultilion (CC BY 2.0).
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from offmap import data, demo

PATH = Path(demo.__file__).with_name("pictures.safetensors")


def main() -> None:
    """Write them."""
    tensors, said = {}, {}
    for name in demo.FAR:
        made = data.embedded(name, size=8, limit=300)
        tensors[name] = made.images
        tensors[f"{name}.rows"] = torch.tensor([int(key) for key in made.keys(0, len(made))])
        said |= {name: made.name, f"{name}.transform": made.transform}
    save_file(tensors, PATH, metadata=said)
    print(f"{PATH.name}: {PATH.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
