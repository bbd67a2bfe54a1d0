"""Commands for later: reminders of unpaid orders."""
