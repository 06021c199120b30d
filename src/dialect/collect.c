    *at = c;
