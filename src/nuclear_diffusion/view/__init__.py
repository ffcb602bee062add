"""Moving pictures in a browser: the player of `nd.show`, of the report and of the app."""
