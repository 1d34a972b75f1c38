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
