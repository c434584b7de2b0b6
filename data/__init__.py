"""What ships with the library, found as the package ``ldarts_data``; see README.md."""
