"""Help for testing applications: a local identity provider and the contract that every backend keeps."""
