// In place of react-custom-scrollbars-2, whose default export the bundle would not find: the browser's own.
import React from 'react';
export const Scrollbars = React.forwardRef(({ children, onScroll, renderView, style }, ref) => (
  <div ref={ref} onScroll={onScroll} style={{ ...style, overflow: 'auto', height: '100%', width: '100%' }}>{children}</div>
));
export default Scrollbars;
