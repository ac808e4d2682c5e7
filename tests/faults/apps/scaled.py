"""`python -m gigq` in which leases, beats and patience are a tenth of what they are, so that a minute takes 6 s."""

import gigq.worker.peers as peers
import gigq.worker.writer as writer
from gigq.cli import main
from gigq.storage.sqlite import SqliteStorage

peers.LEASE_SECONDS /= 10
peers.STEP_AT_MOST_SECONDS /= 10
writer.HEARTBEAT_SECONDS /= 10
writer.PEERS_SECONDS /= 10
SqliteStorage.__init__.__kwdefaults__["busy_seconds"] /= 10

main()
