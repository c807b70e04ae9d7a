"""The flow family: noise becomes an image along straight lines, learned with an L2 loss."""
