"""`python -m gigq` on another host: it sees no process of this one, and nobody here can wake it, nor it anybody."""

import socket

import gigq.storage.sqlite.wake as wake
import gigq.worker.identity as identity
import gigq.worker.peers as peers
import gigq.worker.writer as writer
from gigq.cli import main

HOST = "a-boot-of-another-machine/pid:[1]"

identity.host = lambda: HOST
wake.Waker.wake = lambda self, addresses: None
socket.gethostname = lambda: "elsewhere"
# A tenth, as in scaled.py: of another host's workers, only the lease says that they are dead.
peers.LEASE_SECONDS /= 10
peers.STEP_AT_MOST_SECONDS /= 10
writer.HEARTBEAT_SECONDS /= 10
writer.PEERS_SECONDS /= 10

main()
