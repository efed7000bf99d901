"""Attacks with damaged, absurd and hostile input: what carten answers, found by seeded random mutation."""
