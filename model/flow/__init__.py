"""The flow family: noise becomes a picture along straight lines, learned with an L2 loss."""
