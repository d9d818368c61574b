"""Who the authorization server is: one class for each."""
