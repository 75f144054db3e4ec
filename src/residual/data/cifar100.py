"""CIFAR-100: its published forms, its 100 fine and 20 coarse classes.

Binary records are a coarse label, a fine label and 3,072 pixels (the data set's page); in the Python version
the labels are two lists. Names and numbers of the classes are those of the official `meta` file.
"""

from __future__ import annotations

from residual.data.cifar import PIXELS, Family
from residual.data.published import Form

_FINE = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""
_COARSE = """
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture
    insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
    medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2
"""
FINE, COARSE = tuple(_FINE.split()), tuple(_COARSE.split())
BINARY = Form(
    dataset="cifar-100",
    title="CIFAR-100",
    kind="binary",
    archive="cifar-100-binary.tar.gz",
    size=168_513_733,
    sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    files={
        "train.bin": "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
        "test.bin": "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
    },
    test="test.bin",
    largest=50_000 * (2 + PIXELS),
    records={},
)
PYTHON = Form(
    dataset="cifar-100",
    title="CIFAR-100",
    kind="python",
    archive="cifar-100-python.tar.gz",
    size=169_001_437,
    sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    folder="cifar-100-python",
    files={
        "train": "735e79b04f092ca3d2e6d07f368c0a7d70d48c48d28865950cc24454cf45129b",
        "test": "4b67687d9933c4db8f0831104447f15b93774f4f464bd0516f0f0f2ac83b7864",
    },
    test="test",
    largest=155_249_918,
    records={},
)
CIFAR100 = Family(
    name="cifar-100",
    labels={"coarse": COARSE, "fine": FINE},
    keys={"coarse": b"coarse_labels", "fine": b"fine_labels"},
    forms=(BINARY, PYTHON),
)
