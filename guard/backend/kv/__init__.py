"""
A KV cache without races: who may write a block, who may read it, and when it may be given to another request.

Plain Python. It opens no socket, reads no clock and touches no tensor: an engine tells it what happens and performs the
effects it answers with. `README.md` beside this file is the reference: the nine rules, and each of the 33 public event
orders that this package survives, with the line of code that holds it.

| to read first | holds |
|---|---|
| `rules` | the nine rules, each as clauses that tests switch off one at a time |
| `states` | the five states of a block and the table of legal moves |
| `lease`, `pool` | leases with generations; a block is free only when its last lease has settled |
| `fence` | steps in flight, and settled against optimistic token counts |
| `messages`, `receiver`, `sender` | the abort handshake, decode side and prefill side |
| `grants` | pull transfers: a peer reads our blocks by itself |
| `prefix` | publication to the prefix cache, withdrawal of a lineage |
| `ordering`, `slots` | ready before use: events between steps, loads, stores, sends and broadcasts |
| `layer_split`, `layer_split_steps` | LayerSplit: ownership, memory, and the order of its transfers |
| `host` | the host tier |
| `cache` | all of it together, as an engine drives it |
"""
