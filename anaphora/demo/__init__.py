"""`make demo`: the whole product on one machine, set up by one command. Nothing else imports this package."""
