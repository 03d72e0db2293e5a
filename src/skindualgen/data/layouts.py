"""Names of the layouts that are read; here alone, as help texts need them and must not load the readers."""

from typing import Literal

Layout = Literal[
    "isic2016",
    "isic2017",
    "isic2018",
    "isic2019",
    "isic2020",
    "isic2024",
    "ham10000",
    "ph2",
    "bcn20000",
    "pad-ufes-20",
    "derm7pt",
    "isic-archive",
    "imagefolder",
    "folder",
]
