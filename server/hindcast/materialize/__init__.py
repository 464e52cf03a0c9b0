"""The materialize room: offline rows come in, online rows go out. Feast reaches it by `plugin`."""
