"""The data set layout from and into the formats of other tools."""
