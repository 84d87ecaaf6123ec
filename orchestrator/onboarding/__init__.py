"""The service, split by verb: signup, collect, advance, receive, operate; `apply` is the one writer."""
