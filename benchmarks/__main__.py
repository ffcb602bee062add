"""The command line of the benchmarks: `python -m benchmarks TABLE`."""

import dataclasses
import sys
from collections.abc import Sequence

from tyro.extras import subcommand_type_from_defaults

from benchmarks.index import Index
from benchmarks.pictures import Pictures
from benchmarks.record import RESULTS, TRIALS, is_trial
from benchmarks.tables import TABLES, Table
from nuclear_diffusion import signals
from nuclear_diffusion.errors import InputError
from nuclear_diffusion.options import no_command, parse

COMMANDS = {each.command: each for each in (*TABLES, Pictures(), Index())}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a table in `benchmarks/results` updates the index page; trials go elsewhere."""
    try:
        chosen = _parse(sys.argv[1:] if arguments is None else arguments)
        if isinstance(chosen, Table) and chosen.output == RESULTS and is_trial(chosen, COMMANDS[chosen.command]):
            chosen = dataclasses.replace(chosen, output=TRIALS)
        chosen.run()
        if isinstance(chosen, Table):
            print(chosen.output / f"{chosen.name}.md")
            if chosen.output == RESULTS:
                Index().run()
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{signals.SENTENCE}", file=sys.stderr)
        return signals.code()
    return 0


def _parse(arguments: Sequence[str]) -> Table | Pictures | Index:
    """The command with its options."""
    name, *rest = arguments or [""]
    if name in COMMANDS:
        return parse(type(COMMANDS[name]), rest, f"python -m benchmarks {name}", default=COMMANDS[name])
    if name not in ("-h", "--help"):
        raise no_command(name, COMMANDS)
    shown = {name: each.shows for name, each in COMMANDS.items()}
    return parse(
        subcommand_type_from_defaults(COMMANDS, shown, prefix_names=False, sort_subcommands=False),
        arguments,
        "python -m benchmarks",
        description="Make one of the tables of the documents. Interrupted runs resume.",
    )


if __name__ == "__main__":
    sys.exit(main())
