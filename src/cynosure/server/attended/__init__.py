"""Take what answers attended to: keep it, count it, audit it. Knows no route and reads no body."""
