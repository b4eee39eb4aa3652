"""`hf-mlalign metrics`: install the metrics of this package for `evaluate`, or publish them on the Hub."""

from __future__ import annotations

from typing import Annotated

import typer

from hf_mlalign.cli.options import HELP_FLAGS, HelpCommand, say
from hf_mlalign.core.errors import printable

app = typer.Typer(name="metrics", help="The metrics of this package: list, install, push.", no_args_is_help=True,
                  context_settings=HELP_FLAGS)  # fmt: skip

Names = Annotated[list[str] | None, typer.Argument(help="Metrics, e.g. winrate (default: all).")]


@app.command("list", cls=HelpCommand)
def _list_metrics() -> None:
    """List the metrics of this package, and the script that evaluate runs for each name offline."""
    from hf_mlalign.evaluation.metrics.loading import NAMESPACE, installed_path, metric_names, metric_script

    for name in metric_names():
        path = installed_path(name)
        say(f"{NAMESPACE}/{name}")
        say(f"  packaged:  {metric_script(name)}")
        say(f"  installed: {path or 'no (hf-mlalign metrics install)'}")


@app.command("install", cls=HelpCommand)
def _install(
    names: Names = None,
    namespace: Annotated[str, typer.Option(help="Name before the slash in evaluate.load.")] = "hf_mlalign",
    check_hub: Annotated[bool, typer.Option(help="Check whether the Hub has other code under this name.")] = True,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the Hub.")] = 5.0,
) -> None:
    """Install the metrics, so that evaluate.load("hf_mlalign/winrate") works offline and from any folder."""
    from hf_mlalign.evaluation.metrics.loading import check_spaces, install_metrics

    done = install_metrics(names, namespace=namespace)
    for one in done:
        say(f"{one.name}: {'installed' if one.changed else 'already installed'}")
    say(f"Folder: {done[0].path.parents[2]}" if done else "Nothing to install.")
    spaces = check_spaces({one.name: one.script for one in done}, timeout) if check_hub else {}
    for name, space in spaces.items():
        if space.state == "other":
            warning = (
                f"Warning: the Hub has a Space {name} with other code ({space.reason}). Online, "
                f'evaluate.load("{name}") runs that code. To run the installed code: '
                f'hf_mlalign.load_metric("{name.split("/")[-1]}"), or HF_EVALUATE_OFFLINE=1.'
            )
            typer.secho(printable(warning), fg="red", err=True)
    reasons: dict[str, list[str]] = {}
    for name, space in spaces.items():
        if space.state == "unknown":
            reasons.setdefault(space.reason, []).append(name)
    for reason, unknown in reasons.items():
        say(f"Not checked on the Hub: {', '.join(unknown)}: {reason}.")


@app.command("push", cls=HelpCommand)
def _push(
    namespace: Annotated[str, typer.Option(help="Your user or organisation on the Hub.")],
    names: Names = None,
    private: Annotated[bool, typer.Option("--private/--public", help="Who can see new Spaces.")] = True,
    requirement: Annotated[
        str, typer.Option(help="How requirements.txt names this package, e.g. 'hf-mlalign @ git+https://…'.")
    ] = "hf-mlalign",
) -> None:
    """Publish the metrics as Spaces.

    The token is that of `hf auth login`, or of the environment variable HF_TOKEN.
    """
    from hf_mlalign.evaluation.metrics.loading import push_metrics

    for address in push_metrics(namespace, names, private=private, requirement=requirement):
        say(address)
