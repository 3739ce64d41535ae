"""The flags that several commands share. None is a flag that was not given: defaults live where they are used.

``show_default`` repeats those defaults for the help page, which must not import them; a test compares the two.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

INPUTS, SEARCH, MACHINE, RUN = "Model and data", "Search", "Target and machine", "Run"

Model = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", show_default=False, help="A timm name, or path/file.py:factory."),
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        rich_help_panel=INPUTS,
        help="digits, a .npz, a folder of class folders, or path/file.py:factory.",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="LIMITS",
        rich_help_panel=INPUTS,
        help="Limits on latency, size, ram, macs, params, accuracy and accuracy_drop; % is of the original.",
    ),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LIMITS",
        rich_help_panel=INPUTS,
        help="Limits on latency, size, ram, macs, params, accuracy and accuracy_drop; % is of the original. "
        "Given more than once: a model for each, in DIR/01, DIR/02, …; --time is for all of them.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=RUN,
        help="A run's config.yaml: the same run again; flags given beside it replace what it says.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", rich_help_panel=RUN, help="Replace the run in --out.")]
Time = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        show_default="10m",
        rich_help_panel=SEARCH,
        help="Wall clock of the whole run: 90s, 10m, 1h30m.",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="N", show_default="0", rich_help_panel=SEARCH, help="Of everything random."),
]


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """Where the weights come from."""

    pretrained: Annotated[
        bool, typer.Option("--pretrained", rich_help_panel=INPUTS, help="Start from timm's weights (downloads them).")
    ] = False
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=INPUTS,
            help="Weights: safetensors, or a torch state dict. Without weights the original is trained first.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class DataFlags:
    """What overrides the data's own facts."""

    mean: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C", rich_help_panel=INPUTS, help="Per channel, of pixels scaled to 0..1: 0.485,0.456,0.406."
        ),
    ] = None
    std: Annotated[
        str | None, typer.Option(metavar="A,B,C", rich_help_panel=INPUTS, help="As --mean: 0.229,0.224,0.225.")
    ] = None
    input_size: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", rich_help_panel=INPUTS, help="Height and width of the model's input."),
    ] = None
    skip_bad_images: Annotated[
        bool, typer.Option("--skip-bad-images", rich_help_panel=INPUTS, help="Leave out images that cannot be read.")
    ] = False
    augment: Annotated[
        str | None,
        typer.Option(metavar="KIND", rich_help_panel=INPUTS, help="Of training images: none, shift or shift+flip."),
    ] = None
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default="accuracy",
            rich_help_panel=INPUTS,
            help="accuracy, or balanced_accuracy (mean recall over classes).",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class TargetFlags:
    """Where the file will run."""

    target: Annotated[
        str | None,
        typer.Option(
            metavar="RUNTIME", show_default="onnxruntime", rich_help_panel=MACHINE, help="The runtime of the file."
        ),
    ] = None
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="1", rich_help_panel=MACHINE, help="Of one inference in the runtime."),
    ] = None
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="1", rich_help_panel=MACHINE, help="Samples in one inference."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class SearchFlags:
    """What the search may use, and for how long."""

    time: Time = None
    trials: Annotated[
        int | None, typer.Option(metavar="N", rich_help_panel=SEARCH, help="At most so many trained candidates.")
    ] = None
    techniques: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            show_default="all",
            rich_help_panel=SEARCH,
            help="Those of the space: prune_channels,quantize.",
        ),
    ] = None
    space: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            show_default="default",
            rich_help_panel=SEARCH,
            help="A search space; `autocompress spaces` lists them.",
        ),
    ] = None
    sampler: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default="surrogate",
            rich_help_panel=SEARCH,
            help="What proposes candidates: surrogate, or Optuna's tpe, nsga2 or random.",
        ),
    ] = None
    minimize: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            show_default="latency",
            rich_help_panel=SEARCH,
            help="Where the budget limits only accuracy: latency, size, ram, macs or params.",
        ),
    ] = None
    seed: Seed = None
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            show_default="auto",
            rich_help_panel=MACHINE,
            help="One-thread workers here; auto: one a core. Short runs have none.",
        ),
    ] = None
    ray_address: Annotated[
        str | None, typer.Option(metavar="ADDR", rich_help_panel=MACHINE, help="A running Ray cluster to use instead.")
    ] = None
