from pathlib import Path

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError

from anaphora.deliveries.interface_admin import InterfaceAdmin
from tests.folder_destination.models import FolderInterface


class FolderInterfaceForm(forms.ModelForm[FolderInterface]):
    class Meta:
        model = FolderInterface
        fields = ["name", "folder", "key_prefix", "enabled"]

    def clean_folder(self) -> str:
        folder: str = self.cleaned_data["folder"]
        if not Path(folder).is_absolute() or not Path(folder).is_dir():
            raise ValidationError("Enter the absolute path of a folder that exists.")
        return folder


@admin.register(FolderInterface)
class FolderInterfaceAdmin(InterfaceAdmin[FolderInterface]):
    form = FolderInterfaceForm
