"""Programs that run on a node, under the node's own Python: single files, standard library alone, nothing imported from here.

They are handed over as text (:mod:`chaos.faults._traffic`) and print one JSON object. Python 3.7 is enough for them."""
