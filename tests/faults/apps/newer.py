"""`python -m gigq` of a later version, whose tables have one more column, which old code need not know."""

import gigq.storage.sqlite.schema as schema
from gigq.cli import main

schema.MIGRATIONS += ("ALTER TABLE jobs ADD COLUMN shard TEXT;\n",)
schema.OLDEST_CODE += (1,)

main()
