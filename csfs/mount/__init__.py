"""The filesystem: requests come in at `operations`, find their node, and the node answers."""
