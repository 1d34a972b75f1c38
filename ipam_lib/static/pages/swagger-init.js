"use strict";

// One specification, this server's own: whatever the page's address says, nothing else is ever loaded.
SwaggerUIBundle({
  url: "/swagger/doc.json",
  dom_id: "#swagger-ui",
  queryConfigEnabled: false,
  validatorUrl: null,
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
});

// Swagger UI is dark where it is told to be, not where the reader prefers that.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
