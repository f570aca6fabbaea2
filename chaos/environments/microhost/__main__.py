"""``python -m chaos.environments.microhost``: the supervisor. Started by the provider, not by people."""

import sys

from chaos.environments.microhost.supervisor import main

sys.exit(main(sys.argv[1:]))
