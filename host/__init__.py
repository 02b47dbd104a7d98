"""The application's side: launch, handle, configuration, command line."""
