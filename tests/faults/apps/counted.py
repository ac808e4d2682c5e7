"""`python -m gigq` in a control group whose count of kills for want of memory is in the file `memory.events`."""

from pathlib import Path

import gigq.worker.pools.deaths as deaths
from gigq.cli import main

deaths._events_file = lambda: Path("memory.events")

main()
