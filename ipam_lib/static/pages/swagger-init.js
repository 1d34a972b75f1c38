"use strict";

// Only the specification of this server: Swagger UI ignores the query of the page's URL.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  queryConfigEnabled: false,
  validatorUrl: null,
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
});

// Swagger UI does not follow the preferred color scheme by itself.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
