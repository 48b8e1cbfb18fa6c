"""The command ``accelsim``: finds the command's module, and tells mistakes in one line."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from accelsim import __version__
from accelsim.cli.options import unknown_command
from accelsim.errors import InputError, nearest

# No value of a chip is computed by a BLAS; starting its threads would cost a third of a check, and figures
# of observed tensors would keep more processors busy than --threads allows. Read when numpy is loaded.
for _library in ("OPENBLAS", "MKL", "BLIS"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

_OUT_OF_RANGE = re.compile(
    r"(?P<given>\S+) is not in the range (?:(?P<least>-?\d+)<=)?x(?P<sign>[<>])=(?P<bound>-?\d+)"
)
"""How click says that a number is out of bounds."""

EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

# Name -> (module, the line shown by --help); the module is imported when the command is used.
COMMANDS = {
    "compare": ("compare", "Train a workload on two chips, bit for bit, and compare them."),
    "run": ("run", "Train a workload on one chip, bit for bit."),
    "estimate": ("estimate", "Cycles, energy and memory of one chip, without computing values."),
    "sweep": ("sweep", "Estimates of many versions of a chip, and the best."),
    "map": ("map", "How a workload's GEMMs run on a chip, as loop nests."),
    "gemm": ("gemm", "Multiply A (M x K) by B (K x N) on CHIP, bit for bit."),
    "probe": ("probe", "Training steps of any network, held against float32."),
    "study": ("study", "Studies: many runs, one table, the figures."),
    "plot": ("plot", "Redraw tables, figures and the report from records alone."),
    "validate": ("validate", "Published measurements against the simulator's own figures."),
    "cycles": ("cycles", "Compute cycles as other simulators count them, and ours."),
    "check": ("check", "Check files: chips, workloads, recipes, pins, studies, records."),
    "formats": ("formats", "Number formats, and any format's full code table."),
    "import": ("importing", "Write a model of another tool as a workload file."),
    "rtl": ("rtl", "Write a chip's PE in Verilog, with testbenches and golden vectors."),
    "list": ("listing", "Shipped chips, workloads, recipes, formats and data sets."),
}

EXAMPLES = """\b
Examples:
  accelsim compare fp4_training fp16_training fashion_cnn
  accelsim estimate edge_fp4 fashion_cnn --baseline edge_fp16
  accelsim check my_chip.yaml
  accelsim COMMAND --help
"""


class LazyGroup(click.Group):
    """The commands of `COMMANDS`, each imported when it is used, so that ``--help`` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Command names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"accelsim.cli.{COMMANDS[cmd_name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or tell which one was probably meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise unknown_command(args[0], COMMANDS, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"accelsim {__version__}")
        ctx.exit()


@click.command(
    "accelsim",
    cls=LazyGroup,
    epilog=EXAMPLES,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Simulate the training of a neural network on an accelerator, bit for bit.

    What would the network learn on this chip, how long would it take and what would it burn, against the
    same silicon in 16 bits?
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done; 2: a mistake in what the user gave, told in one line on standard error; 130: Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # a terminal without the character mm² shows a question mark
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        # Not cli.main(): it would answer Ctrl-C and a closed pipe in its own words.
        with cli.make_context("accelsim", list(words), obj=tuple(words)) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except InputError as error:
        return _tell(str(error), EXIT_MISTAKE)
    except click.UsageError as error:
        return _tell(_usage_text(error), EXIT_MISTAKE)
    except KeyboardInterrupt as stop:
        return _tell(str(stop) or "interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader has left, as `head` does
        _discard_output()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        _discard_output()
        return _tell(f"{error.filename or 'output'}: {error.strerror}", EXIT_MISTAKE)
    return 0


def _discard_output() -> None:
    """Let what is still buffered go nowhere; otherwise Python complains about it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(text: str, code: int) -> int:
    label = "error" if code == EXIT_MISTAKE else "stopped"
    click.echo(f"{label}: {' '.join(text.split())}", err=True)
    return code


def _usage_text(error: click.UsageError) -> str:
    """Click's message on one line, with the nearest option and where to read on."""
    text = error.format_message()
    if isinstance(error, click.NoSuchOption):
        names = [name for option in error.ctx.command.params for name in option.opts] if error.ctx else []
        allowed = sorted(name for name in [*names, "--help"] if name.startswith("--"))
        text = f"unknown option '{error.option_name}'{nearest(error.option_name, allowed)}; allowed: "
        text += ", ".join(allowed)
    # Click's name of the type of a number with bounds is none that a user knows.
    text = text.replace("a valid integer range", "a whole number").replace(
        "a valid integer", "a whole number"
    )
    text = text.replace("a valid float", "a number")
    text = _OUT_OF_RANGE.sub(_range_text, text)
    path = error.ctx.command_path if error.ctx else "accelsim"
    return f"{text.rstrip('.')} (see {path} --help)"


def _range_text(match: re.Match[str]) -> str:
    """What a number may be, in the words of other messages."""
    least, sign, bound = match["least"], match["sign"], match["bound"]
    allowed = f"between {least} and {bound}" if least else f"at {'least' if sign == '>' else 'most'} {bound}"
    return f"must be {allowed}, got {match['given']}"
