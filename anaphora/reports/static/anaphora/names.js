// Names for what Django's admin builds by script, or groups, without one: screen readers say them.
"use strict";

window.addEventListener("load", () => {
  const labelOf = (id) => document.querySelector(`label[for="${id}"]`)?.textContent.trim().replace(/:$/, "");

  document.querySelectorAll(".datetime").forEach((pair) => {
    const label = pair.closest(".form-row")?.querySelector("label");
    if (!label || pair.contains(label)) return;
    pair.setAttribute("role", "group");
    pair.setAttribute("aria-label", label.textContent.trim().replace(/:$/, ""));
  });

  document.querySelectorAll(".help-tooltip[aria-label]").forEach((icon) => icon.setAttribute("role", "img"));

  // Select2 builds its fields when jQuery is ready; what is asked of jQuery now comes after that.
  window.django?.jQuery?.(() => {
    document.querySelectorAll("select.admin-autocomplete").forEach((select) => {
      const search = select.nextElementSibling?.querySelector(".select2-search__field");
      if (search) search.setAttribute("aria-label", labelOf(select.id) || "Search");
    });
  });
});
