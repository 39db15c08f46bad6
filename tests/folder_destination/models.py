from pathlib import Path

from django.db import models

from anaphora.deliveries.models import Interface
from tests.folder_destination.destination import FolderDestination


class FolderInterface(Interface):
    folder = models.CharField(max_length=255, help_text="An absolute path. The folder must exist.")

    class Meta:
        verbose_name = "folder interface"

    @property
    def place(self) -> str:
        return f"folder {self.folder}"

    def configuration(self) -> str:
        return self.folder

    def open(self) -> FolderDestination:
        return FolderDestination(Path(self.folder))
