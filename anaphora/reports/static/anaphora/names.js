// Adds accessible names to elements that Django's admin creates without one.
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

  // Select2 creates its fields when jQuery is ready. This callback runs after that.
  window.django?.jQuery?.(() => {
    document.querySelectorAll("select.admin-autocomplete").forEach((select) => {
      const search = select.nextElementSibling?.querySelector(".select2-search__field");
      if (search) search.setAttribute("aria-label", labelOf(select.id) || "Search");
    });
  });
});
