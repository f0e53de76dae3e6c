"""Who is in the consortium: invitations, members, transport certificates, signed documents."""
