"""The web part: thin views that parse, call one verb of the service, and answer."""
