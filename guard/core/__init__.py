"""The exchange state machine: events in, commands out; it awaits nothing and reads no clock."""
