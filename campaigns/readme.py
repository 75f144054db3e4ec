"""The figures of the README, drawn up from the result files; a test holds the two together."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

from campaigns.readme_trainings import cifar, digits, fine_tuning, paper, percent, protocols
from campaigns.running import RESULTS, ROOT
from residual.files import Facts, replace_file

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def _read(name: str) -> Facts | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_bytes()) if path.is_file() else None


def _where(result: Facts) -> str:
    cores, versions = result["machine"]["cores"], result["versions"]
    counted = f"{cores} core{'s' if cores != 1 else ''}"
    return f"{result['machine']['processor']}, {counted}, torch {versions['torch']}, {result['date']}"


def _kill(result: Facts) -> tuple[str, str, str]:
    plain, dropout, bad = result["plain"], result["dropout"], result["during saves, non-atomic (must fail)"]
    figure = (
        f"{plain['identical']} of {plain['kills']} and, with dropout, {dropout['identical']} of {dropout['kills']} "
        f"bit-identical; a non-atomic saver is caught in {bad['kills'] - bad['identical']} of {bad['kills']}"
    )
    return "kill -9 at random instants of a CIFAR-10 run, resumed", figure, f"kill seed {plain['seed']}"


def _faults(result: Facts) -> tuple[str, str, str]:
    figure = f"{result['sound']} of {result['cases']} without loss"
    return "the N-th write, fsync, rename, mkdir fails (EIO, ENOSPC, kill -9), every N", figure, "-"


def _damage(result: Facts) -> tuple[str, str, str]:
    flips = [result["small_checkpoint"], result["resnet_20"]]
    cuts = [result["truncation_small"], result["truncation_resnet_20"]]
    figure = (
        f"{sum(f['found'] for f in flips):,} of {sum(f['bits'] for f in flips):,} flips and "
        f"{sum(c['found'] for c in cuts):,} of {sum(c['cuts'] for c in cuts):,} cuts found"
    )
    return "one flipped bit, or a cut, anywhere in a checkpoint", figure, "flip seed 0"


def _every_step(result: Facts) -> tuple[str, str, str]:
    variants = result["variants"].values()
    figure = f"{sum(v['identical'] for v in variants)} of {sum(v['restored'] for v in variants)} rests bit-identical"
    return "state saved at every step, each restored, each rest compared", figure, "seed 0"


def _nonfinite(result: Facts) -> tuple[str, str, str]:
    places = result["places"].values()
    figure = f"{sum(p['sound'] for p in places)} of {sum(p['injected'] for p in places)} found in the same step"
    where = ", ".join(result["places"])
    return f"NaN, inf or -inf put into a run ({where}); every number on disk stays finite", figure, "seed 0"


def _precision_of(result: Facts) -> str:
    return " and ".join(dict.fromkeys(one["compute"]["precision"] for one in result["networks"].values()))


def _throughput(result: Facts) -> tuple[str, str, str]:
    figures = []
    for name, found in result["networks"].items():
        ours, theirs, ratio = found["ours"]["median"], found["theirs"]["median"], found["ratio"]
        figures.append(
            f"{name}: {ours:,.0f} against {theirs:,.0f} images/s, {ratio['of medians']:.1f} times "
            f"({ratio['least']:.1f} to {ratio['most']:.1f})"
        )
    what = (
        f"training in {_precision_of(result)}, as the program chooses here, beside the usual loop in float32 "
        f"(PIL image by image, DataLoader with its best number of workers), {result['data']}, batch "
        f"{result['batch_size']}, medians of {result['rounds']} turns; training alone"
    )
    return what, "; ".join(figures), "-"


def _start_up(result: Facts) -> tuple[str, str, str]:
    seconds = result["seconds"]
    figure = (
        f"{seconds['train']:.1f} s; resumed at step 60,000 {seconds['resume at 60,000']:.1f} s, "
        f"{result['ratio']:.2f} times as long as at step 1"
    )
    return "`residual train cifar10-paper`: from the command to the end of its first step, data cached", figure, "-"


def _precision(result: Facts) -> tuple[str, str, str]:
    figures = []
    for name, found in result["precisions"].items():
        top1, seconds = found["top1"], found["seconds"]
        figures.append(
            f"{name} {percent(top1['mean'])} ± {100 * top1['std']:.2f} validation top-1, {seconds['mean']:.0f} s"
        )
    what = f"bfloat16 beside float32: {result['network']}, {result['epochs']:g} epochs of `cifar10-fast`, last step"
    figures.append(result["verdict"])
    return what, "; ".join(figures), f"seeds {', '.join(str(seed) for seed in result['seeds'])}"


def _speed(result: Facts) -> tuple[str, str, str]:
    figures = []
    for name, found in result["networks"].items():
        parts = []
        for what in ("training", "inference"):
            part, ratio = found[what], found[what]["ratio"]
            parts.append(
                f"{what} {part['ours']['median']:,.0f} against {part['theirs']['median']:,.0f} images/s, "
                f"{ratio['of medians']:.1f} times ({ratio['least']:.1f} to {ratio['most']:.1f}), "
                f"{part['gflops']:,.0f} GFLOP/s = {part['share_of_limit']:.0%} of the limit"
            )
        ours, theirs = found["memory"]["ours"], found["memory"]["theirs"]
        memory = f"; {ours / 2**20:,.0f} MB against {theirs / 2**20:,.0f}" if ours is not None and theirs else ""
        figures.append(f"{name}, batch {found['batch_size']}: {'; '.join(parts)}{memory}")
    what = (
        f"training ({_precision_of(result)}) and inference (float32) beside the usual loop (PIL image by "
        "image, DataLoader with its best number of workers, float32 NCHW) and the machine's limit in the same "
        "precision (large products of matrices; a multiply-add is two operations), medians over turns; on another day "
        "than the row on training alone, every network in a process of its own and the products in every turn"
    )
    return what, "<br>".join(figures), "-"


def _listing(result: Facts) -> tuple[str, str, str]:
    table = result["table"]
    figure = f"{table['seconds']:.2f} s, {table['ratio']:.1f} times as long as for 10 runs"
    return f"`residual runs` with {result['runs']:,} runs of {result['records']} records, with start-up", figure, "-"


def _ga001(result: Facts) -> tuple[str, str, str]:
    study, settings = result["study"], result["settings"]
    counts, best = study["counts"], study["best"]
    what = (
        f"`ga-001` as seed 001 has it: {study['population']} individuals, {study['generations']} generations, "
        f"{settings['network']}, {settings['optimiser']}, space `{settings['space']}`, {settings['epochs']:g} epochs "
        f"of {settings['limit'] or 50_000:,} images, the test set unread"
    )
    figure = (
        f"{counts['trained']} trained, {counts['failed']} failed (momentum of 1 and more); best validation top-1 "
        f"{percent(best['fitness'])} (individual {best['number']}), {study['seconds'] / 60:.0f} min of training"
    )
    return what, figure, f"search seed {study['seed']}"


def _tuning_parts(result: Facts) -> tuple[str, str, str]:
    study = result["study"]
    genes = ", ".join(f"`{path}`" for path in study["space"]["genes"])
    what = f"`ga` over {genes}: ResNet-8, the embedded digits, {result['settings']['epochs']:g} epochs"
    best = ", ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in study["best"]["genes"].values())
    first = study["populations"][0]["best"]
    figure = (
        f"{len(study['individuals'])} trainings; best validation top-1 {percent(study['best']['fitness'])} ({best}), "
        f"of the first generation {percent(first)}"
    )
    return what, figure, f"search seed {study['seed']}"


def _comparison(result: Facts) -> tuple[str, str, str]:
    what = (
        f"searches compared: {result['recipe']['network']['name']}, {result['recipe']['data']['limit']:,} images, "
        f"{result['recipe']['epochs']:g} epochs, {result['trainings']} trainings a search, test top-1 of the winners "
        f"with {result['fresh']} fresh seeds, mean ± deviation of {result['searches']} searches"
    )
    arms = [
        f"{arm} {100 * mean['mean']:.2f} ± {100 * mean['std']:.2f} %"
        for arm, means in result["means"].items()
        if (mean := means["top1"]) is not None
    ]
    shown = [
        one["verdict"]
        for one in result["differences"]
        if " is better " in one["verdict"] or " is worse " in one["verdict"]
    ]
    words = "; ".join(shown) or f"none of {len(result['differences'])} differences was shown"
    return what, f"{', '.join(arms)}; {words}", f"search seeds 0 to {result['searches'] - 1}"


def _tuning_kill(result: Facts) -> tuple[str, str, str]:
    figures = []
    for name in ("sqlite", "postgresql"):
        found = result[name]
        if "studies" in found:
            same = sum(row["equal"] for row in found["studies"])
            figures.append(
                f"{name}: {found['kills']} kills, {same} of {len(found['studies'])} studies as if left alone"
            )
    workers, seed = result["sqlite"]["workers"], result["sqlite"]["seed"]
    return f"{workers} workers of a search, kill -9 at random instants", "; ".join(figures), f"kill seed {seed}"


def _onnx(result: Facts) -> tuple[str, str, str]:
    graphs, trips, run = result["graphs"], result["round_trips"], result["trained"]
    images = sum(graph["images"] for graph in graphs)
    figure = (
        f"same top-1 for {sum(graph['same_top1'] for graph in graphs):,} of {images:,} answers, largest difference "
        f"{max(graph['largest_difference'] for graph in graphs):.1g}; "
        f"{sum(trip['identical'] == trip['images'] for trip in trips)} of {len(trips)} networks bit-identical"
    )
    what = (
        f"{run['network']} after {run['epochs']} epochs of CIFAR-10 in ONNX Runtime, logits and probabilities of "
        f"{graphs[0]['images']:,} test images; networks out to torchvision, timm, safetensors and in again"
    )
    return what, figure, f"seed {run['seed']}"


def _peers(result: Facts) -> tuple[str, str, str]:
    rows = result["comparisons"]
    names = ", ".join(f"{name} {version}" for name, version in result["libraries"].items())
    largest = [max(row[mode] for row in rows if mode in row) for mode in ("evaluation", "training")]
    bounds = [f"{_above(value):.2g}" for value in largest]
    figure = f"logits within {bounds[0]} of the largest ({len(rows)} files), in training {bounds[1]}"
    images = f"{result['images']} random images of {result['pixels']} pixels"
    return f"the networks of {names} beside ours with their weights, {images}", figure, "-"


def _above(value: float) -> float:
    """The next number of two digits that is no smaller: a bound is not rounded down."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1) if value > 0 else 1.0
    return math.ceil(value / unit - 1e-9) * unit


def _mutated(result: Facts) -> tuple[str, str, str]:
    figure = (
        f"{result['sound']:,} of {result['files']:,} without a crash, a hang or a death: {result['read']:,} read, "
        f"{result['refused']:,} refused in words"
    )
    return "image files of seven formats with flipped bits, cuts, swaps", figure, f"mutation seed {result['seed']}"


def _loading(result: Facts) -> tuple[str, str, str]:
    ways = {"ours": "as files", "ours, Pillow alone": "as files without the extra", "packed": "packed"}
    figures = [
        f"{size}: theirs {found['theirs']['median']:,.0f} ({found['theirs, cropped first']['median']:,.0f} where the "
        "crop comes before the resizing), "
        + ", ".join(
            f"{word} {found[way]['median']:,.0f} ({found[f'ratio {way}']['resized first']:.1f} and "
            f"{found[f'ratio {way}']['cropped first']:.1f} times)"
            for way, word in ways.items()
            if way in found
        )
        for size, found in result["sets"].items()
    ]
    what = (
        f"reading and augmenting JPEGs to {result['side']} x {result['side']}, images/s of one core, beside PIL (open, "
        f"convert, resize, crop), medians of {result['rounds']} turns"
    )
    return what, "; ".join(figures), "-"


def _tiny(result: Facts) -> tuple[str, str, str]:
    scores, grey = result["final"]["validation"], result["grey_images"]
    what = (
        f"Tiny ImageNet's subset from its .tar.gz: {result['network']['name']}, {result['images_seen']:,} images seen, "
        f"single view, last step; {grey['training']:,} of the training images are grey, "
        f"{grey['validation']:,} of the others"
    )
    figure = (
        f"{percent(scores['top1'])} top-1, {percent(scores['top5'])} top-5 of the {scores['images']:,} validation "
        f"images; {result['seconds'] / 60:.0f} min"
    )
    return what, figure, f"seed {result['seed']}"


def _fresh(result: Facts) -> tuple[str, str, str]:
    figure = (
        f"{result['demo']['seconds']:.0f} s and {result['test']['seconds']:.0f} s ({result['tests']['passed']} tests)"
    )
    return "fresh clone: `make demo` with its installation, then `make test`", figure, "-"


def _processes(result: Facts) -> tuple[str, str, str]:
    one, faults = result["against_one"], result["faults"].values()
    kills = [result["worker"], result["agent"]]
    whole = [min(k["identical"], k["each_sample_once_an_epoch"]) for k in kills]
    figure = (
        f"{one['steps']} steps in float64 differ by {one['steps_apart_float64']:.0e}; "
        f"{whole[0]} of {kills[0]['kills']} runs whose worker was killed -9 and {whole[1]} of {kills[1]['kills']} "
        "whose agent was are bit-identical; "
        f"{sum(f['sound'] for f in faults)} of {len(faults)} kinds of fault end every process with one line"
    )
    return "two processes against one; torchrun with restarts", figure, f"kill seed {kills[0]['seed']}"


def _scaling(result: Facts) -> tuple[str, str, str]:
    figures = [
        f"{row['processes']} ({row['batch_norm']}): {row['images_per_second']['median']:,.0f} images/s"
        for row in result["rows"]
    ]
    data = {"digits": "the embedded digits"}.get(result["data"], result["data"])
    what = f"{result['network']} on {data}, batch {result['batch_size']}, by processes ({result['device']})"
    return what, "; ".join(figures), "-"


ROWS: dict[str, Callable[[Facts], tuple[str, str, str]]] = {
    "fresh": _fresh,
    "digits": digits,
    "cifar10-fast": cifar,
    "cifar10-paper-resnet-20-seed0": paper,
    "fine-tuning": fine_tuning,
    "protocols": protocols,
    "kill": _kill,
    "every-step": _every_step,
    "faults": _faults,
    "damage": _damage,
    "nonfinite": _nonfinite,
    "train-throughput": _throughput,
    "start-up": _start_up,
    "speed": _speed,
    "precision": _precision,
    "runs-listing": _listing,
    "ga001-resnet-20-sgd-seed001-seed0": _ga001,
    "tuning-parts": _tuning_parts,
    "comparison": _comparison,
    "tuning-kill": _tuning_kill,
    "onnx": _onnx,
    "peers": _peers,
    "processes": _processes,
    "processes-scaling": _scaling,
    "loading": _loading,
    "mutated": _mutated,
    "tiny-imagenet": _tiny,
}


def table() -> str:
    """The README's table of figures, from the result files that are there."""
    lines = ["| what | measured | chance | command | on |", "|---|---|---|---|---|"]
    for name, row in ROWS.items():
        result = _read(name)
        if result is not None:
            what, figure, chance = row(result)
            made = [*result.get("earlier", []), result]  # parts that were measured one by one
            commands = [one["command"] for one in made]
            if len(made) == 1 and "--only" in commands[0]:  # parts of a file from before there was `earlier`
                commands.insert(0, f"make campaign {result['campaign']}")
            command = " and ".join(f"`{one}`" for one in commands)
            command += f" → [results/{name}.json](results/{name}.json)"
            where = "; ".join(dict.fromkeys(map(_where, made)))
            lines.append(f"| {what} | {figure} | {chance} | {command} | {where} |")
    return "\n".join(lines)


def put(text: str, figures: str) -> str:
    """The README's text with the figures between the two marks."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{figures}\n{END}{tail}"


def main(argv: list[str]) -> int:
    path: Path = ROOT / "README.md"
    replace_file(path, put(path.read_text(), table()).encode())
    print("README.md: the figures are those of results/")
    return 0
