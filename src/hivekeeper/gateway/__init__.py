"""The gateway: HTTP in, zome call out, on whichever host serves the hApp."""
