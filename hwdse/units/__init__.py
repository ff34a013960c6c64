"""Physical quantities with units as text: parsing and formatting; imports nothing of hwdse."""
